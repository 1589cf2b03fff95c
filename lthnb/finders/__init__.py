"""Other ways to a mask than a search of trainings and prunings, one file each."""
