"""The metadata is in setup.cfg; here is the front page, with addresses that also work outside the repository."""

import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent


def front_page() -> str:
    """README.md, whose links and pictures lead into this folder, with those of the repository instead."""
    config = ConfigParser()
    config.read(HERE / "setup.cfg", encoding="utf-8")
    home = config["metadata"]["url"]
    text = (HERE / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"(!\[[^\]]*\]\()(?!https?:)", rf"\1{home}/raw/main/", text)
    text = re.sub(r"(!\[[^\]]*\]\([^)]*\.svg)\)", r"\1?sanitize=true)", text)  # else GitHub gives it as plain text
    return re.sub(r"((?<!!)\[[^\]]*\]\()(?!https?:|#)", rf"\1{home}/blob/main/", text)


if __name__ == "__main__":
    setup(long_description=front_page(), long_description_content_type="text/markdown")
