"""What pyproject.toml cannot say; all else of the packaging is there."""

import re
from pathlib import Path

HERE = Path(__file__).resolve().parent
LINK = re.compile(r"\]\((?![a-z]+:|#)([^)#]+)(#[^)]*)?\)")


def main():
    # Only here, since it must come before distutils, which whoever tests the rest has imported.
    import setuptools
    from setuptools.config import pyprojecttoml

    described = pyprojecttoml.load_file(HERE / "pyproject.toml")["project"]
    if int(setuptools.__version__.partition(".")[0]) < 77:
        spdx_as_text(pyprojecttoml)
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    setuptools.setup(
        long_description=readable_elsewhere(readme, described["urls"]),
        long_description_content_type="text/markdown",
    )


def spdx_as_text(pyprojecttoml):
    """Let setuptools before 77 (Debian 12, EL 9 and 10, Ubuntu 24.04) read an SPDX licence."""
    load = pyprojecttoml.load_file

    def load_file(path):
        data = load(path)
        data["project"]["license"] = {"text": data["project"]["license"]}
        data["tool"]["setuptools"]["license-files"] = data["project"].pop("license-files")
        return data

    pyprojecttoml.load_file = load_file


def readable_elsewhere(text, urls):
    """Make the links of README.md lead somewhere from a package index, too."""

    def absolute(link):
        path, anchor = Path(link[1]), link[2] or ""
        if path.parts[0] == "docs":
            page = path.relative_to("docs").with_suffix(".html").as_posix()
            return f"]({urls['Documentation']}{page}{anchor})"
        return f"]({urls['Source']}/blob/HEAD/{path.as_posix()}{anchor})"

    return LINK.sub(absolute, text)


if __name__ == "__main__":
    main()
