"""Lottery tickets in recommender models: find them, check them, keep them.

Nothing is loaded here, so that ``import lthnb`` costs nothing; import the module that does the job
(``from lthnb import lottery``). The modules, in the order in which they build on each other, are
listed in the README.
"""

__version__ = "0.1.0"
