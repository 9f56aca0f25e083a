from fastcnn.kernels._tiles cimport fc_kernels

# The table in use. A step keeps the one that was in use when it was made.
cdef const fc_kernels *current() except NULL

# Whether Python's signal handlers run in the calling thread.
cdef bint is_main_thread() noexcept

# Remembers that threads are used: children forked later stay on one thread.
cdef void note_threads() noexcept nogil
