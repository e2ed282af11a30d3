"""Markdown tables that read well as text too, and names that hold none of its syntax."""

from curvopt._names import in_markdown as in_markdown, markdown_table


markdown = markdown_table
