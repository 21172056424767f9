"""What can be said to copy a store: `tenure backup`, `restore`, `export`, `import`. Imports nothing that they need."""

from typing import Any


def add_backup_commands(commands: Any) -> None:
    """Add the commands that copy a store as a whole, or its objects."""
    backup = commands.add_parser("backup", help="write the store, as it is at one moment, into a new file")
    backup.add_argument("file")
    backup.set_defaults(command="shared.cli.backup:backup")

    restore = commands.add_parser("restore", help="put a backup into the store, which goes back in time")
    restore.add_argument("file")
    restore.add_argument("--replace", action="store_true", help="into a store that is not empty: all in it gives way")
    restore.add_argument("--live", action="store_true", help="while nodes work on the store: their shards are taken")
    restore.set_defaults(command="shared.cli.backup:restoring")

    export = commands.add_parser(
        "export", help="write objects and documents, as they are at one moment, into a new file"
    )
    export.add_argument("file")
    export.add_argument("--kind", default="", help="only objects of this kind, and no documents")
    export.add_argument("--tenant", default="", help="only what is this tenant's")
    export.set_defaults(command="shared.cli.transfer:exporting_command")

    importing = commands.add_parser(
        "import", help="add exported objects and documents to a store, of TENURE_SHARDS shards"
    )
    importing.add_argument("file")
    importing.add_argument("--objects-only", action="store_true", help="leave tenants, keys and policies out")
    importing.set_defaults(command="shared.cli.transfer:importing_command")
