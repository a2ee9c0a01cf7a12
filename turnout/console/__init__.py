"""The console: a page that shows a project's stages and moves their canaries, for a local server or a stack on AWS."""
