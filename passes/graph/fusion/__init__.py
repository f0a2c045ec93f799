"""How graph-fuse works: `plan` decides which values get a buffer, `build` makes a stage of each, `group` joins them."""
