"""Official files of the sets: facts about them, getting, checking and reading them."""
