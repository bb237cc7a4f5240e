/*
 * Request tokens: 128 random bits from the kernel, as 32 lowercase hexadecimal digits.
 */
#ifndef DEFERD_TOKEN_H
#define DEFERD_TOKEN_H

#define TOKEN_LEN 32

/* Writes a fresh token, terminated. Returns 0, or -1 with errno if the kernel gives no random
 * bytes. One system call serves many tokens; call it after fork only in the process that uses the
 * tokens. */
int token_make(char out[TOKEN_LEN + 1]);

#endif
