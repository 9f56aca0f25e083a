_capi: object  # a PyCapsule
