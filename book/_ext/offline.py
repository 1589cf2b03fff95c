"""Leave out thebe: unused, it names a CDN and, put in twice, is an error in the console."""


def without_thebe(app, pagename, templatename, context, doctree):
    """Drop thebe's scripts from a page: the one with its address, and the one that uses it."""

    def is_thebe(script):
        body = getattr(script, "attributes", {}).get("body") or ""
        return "THEBE_JS_URL" in body or "thebe" in str(getattr(script, "filename", ""))

    context["script_files"] = [file for file in context["script_files"] if not is_thebe(file)]


def setup(app):
    app.connect("html-page-context", without_thebe, priority=900)  # after those who add scripts
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
