"""The loading room."""
