"""docs/configuration.md lists exactly the settings that exist."""

from scripts.write_docs import PAGE, page_with, settings_tables


def test_the_page_is_what_the_code_says() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page_with(settings_tables(), page) == page, "run make docs"
