"""As in 25.9.3."""
backup = {'config': {'files': ['/etc/minetest/minetest.conf']}}
