from fastcnn.kernels._tiles cimport fc_kernels

# The table in use; steps keep the one they were made with.
cdef const fc_kernels *current() noexcept

# Whether this is the thread that Python's signal handlers run in.
cdef bint is_main_thread() noexcept

# Called before threads are used: from then on forked children stay on one thread.
cdef void note_threads() noexcept
