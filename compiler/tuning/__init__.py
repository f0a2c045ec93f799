"""Finding schedules that measure faster than the defaults, and keeping what was found: `tune` leads the search."""
