"""How graph-fuse works: `plan` decides which values get a buffer, `build` makes a stage for each, `group` joins stages."""
