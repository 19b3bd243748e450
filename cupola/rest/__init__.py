"""How HTTP works here: messages, resources, operations, dispatch, lists, and their description. Knows no resource."""
