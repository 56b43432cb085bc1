"""Floor 4: what a person reads afterwards: one HTML file with its pictures, a CSV, figures."""

from .figures import margin_histogram
from .html import write_margin_report
from .margin_files import empty_document, write_csv, write_json

__all__ = ["empty_document", "margin_histogram", "write_csv", "write_json", "write_margin_report"]
