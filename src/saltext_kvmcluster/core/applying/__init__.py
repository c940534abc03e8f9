"""An SLS applied on nodes: what of Salt's runs and waits there, what came of it, where it ended."""
