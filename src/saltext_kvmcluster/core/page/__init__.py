"""The cluster as a page for people: a view, which a template shows."""
