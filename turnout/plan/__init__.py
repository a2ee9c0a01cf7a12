"""Everything that models.yaml asks for, as pure data: functions, routes, stages, packages."""
