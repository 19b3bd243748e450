"""Router groups: the routing API's HTTP face."""
