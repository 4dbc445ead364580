"""The commands of `python -m miniclip`: each with its flags, and what it prints."""

from .table import COMMANDS
