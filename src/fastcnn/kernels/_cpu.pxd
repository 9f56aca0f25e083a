from fastcnn.kernels._tiles cimport fc_kernels

# The table in use; steps keep the one they were made with.
cdef const fc_kernels *current() noexcept
