"""Modules that `cupola.buildpacks.pack` puts into the lib directory of every system buildpack."""
