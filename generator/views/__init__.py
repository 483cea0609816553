"""Dataset in, plain data and pages out: no MkDocs, no file access outside the templates."""
