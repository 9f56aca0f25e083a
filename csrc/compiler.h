/* compiler.h: what gcc and clang, whose cl form is for Windows, say in different words.
 *
 * Both know `#pragma GCC unroll`, vector types and assembly. */
#ifndef FASTCNN_COMPILER_H
#define FASTCNN_COMPILER_H

#define FC_PRAGMA(text) _Pragma(#text)

/* All functions between FC_TARGET(...) and FC_END_TARGET may use these instructions. With a compiler flag, a file could
 * not be compiled for several machines at once. */
#if defined(__clang__)
#define FC_TARGET(instructions)                                                                                        \
    FC_PRAGMA(clang attribute push(__attribute__((target(instructions))), apply_to = function))
#define FC_END_TARGET FC_PRAGMA(clang attribute pop)
#else
#define FC_TARGET(instructions) FC_PRAGMA(GCC target(instructions))
#define FC_END_TARGET
#endif

#define FC_INLINE static inline __attribute__((always_inline))

/* A function that keeps its name and its registers: it is neither inlined, nor copied for constant arguments. */
#if defined(__clang__)
#define FC_OUTLINE static __attribute__((noinline))
#else
#define FC_OUTLINE static __attribute__((noinline, noclone))
#endif

/* Tiles of three and four blocks use all registers. gcc's register allocation by colouring moves sums between them. */
#if defined(__clang__)
#define FC_NO_COLOURING
#else
#define FC_NO_COLOURING __attribute__((optimize("ira-algorithm=priority")))
#endif

/* Lanes of a and, counted on, of b; they are constants. gcc knows clang's name from version 12 on. `v_i` is the type of
 * integer vectors. */
#if defined(__clang__)
#define V_SHUFFLE(a, b, ...) __builtin_shufflevector((a), (b), __VA_ARGS__)
#else
#define V_SHUFFLE(a, b, ...) __builtin_shuffle((a), (b), (v_i){__VA_ARGS__})
#endif

#endif
