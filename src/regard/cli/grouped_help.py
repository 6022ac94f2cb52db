"""Help in plain text whose options stand in the groups that their `rich_help_panel` names."""

from typing import Any

from typer.core import TyperCommand, TyperOption


class GroupedCommand(TyperCommand):
    """A command whose `--help` shows options in groups, in the order in which the groups first come.

    Options without a group come last, as "Options"; arguments come first, as in any command.
    """

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options."""
        groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
        others: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is None:
                continue
            if not isinstance(parameter, TyperOption):
                groups["Arguments"].append(record)
            elif parameter.rich_help_panel:
                groups.setdefault(parameter.rich_help_panel, []).append(record)
            else:
                others.append(record)
        for name, records in {**groups, "Options": others}.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)
