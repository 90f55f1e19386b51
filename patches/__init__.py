"""One file per upstream training codebase, each a plugin of `regap_plugin`."""
