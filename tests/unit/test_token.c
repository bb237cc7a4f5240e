/*
 * Request tokens.
 */
#include "check.h"
#include "deferd/token.h"

#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TOKENS 10000

static int token_order(const void *a, const void *b)
{
    return memcmp(a, b, TOKEN_LEN);
}

static void a_token_is_32_lowercase_hexadecimal_digits(void **state)
{
    (void)state;
    for (int i = 0; i < 1000; i++) {
        char *token = malloc(TOKEN_LEN + 1);
        assert_non_null(token);
        memset(token, 0xff, TOKEN_LEN + 1);
        assert_int_equal(token_make(token), 0);
        assert_int_equal(token[TOKEN_LEN], '\0');
        assert_int_equal(strlen(token), 32);
        assert_int_equal(strspn(token, "0123456789abcdef"), 32);
        free(token);
    }
}

static void no_token_repeats(void **state)
{
    char(*tokens)[TOKEN_LEN + 1] = malloc(TOKENS * sizeof(*tokens));
    (void)state;
    assert_non_null(tokens);
    for (size_t i = 0; i < TOKENS; i++) {
        assert_int_equal(token_make(tokens[i]), 0);
    }
    qsort(tokens, TOKENS, sizeof(*tokens), token_order);
    for (size_t i = 1; i < TOKENS; i++) {
        assert_string_not_equal(tokens[i - 1], tokens[i]);
    }
    free(tokens);
}

/* Each of the 128 bits is set in about half of the tokens, and each digit stands at each place in
 * about a sixteenth of them. The borders are eight standard deviations away. */
static void every_bit_of_a_token_is_random(void **state)
{
    static const char digits[] = "0123456789abcdef";
    size_t set[4 * TOKEN_LEN] = {0};
    size_t used[TOKEN_LEN][16] = {{0}};
    char token[TOKEN_LEN + 1];
    (void)state;
    for (size_t i = 0; i < TOKENS; i++) {
        assert_int_equal(token_make(token), 0);
        for (size_t j = 0; j < TOKEN_LEN; j++) {
            size_t digit = (size_t)(strchr(digits, token[j]) - digits);
            used[j][digit]++;
            for (size_t bit = 0; bit < 4; bit++) {
                set[4 * j + bit] += digit >> bit & 1;
            }
        }
    }
    for (size_t i = 0; i < CHECK_COUNT(set); i++) {
        assert_in_range(set[i], 4600, 5400);
    }
    for (size_t j = 0; j < TOKEN_LEN; j++) {
        for (size_t digit = 0; digit < 16; digit++) {
            assert_in_range(used[j][digit], 400, 850);
        }
    }
}

/* The first token of a new process: of this program, run with an argument. */
static void token_of_a_new_process(char token[TOKEN_LEN + 1])
{
    char path[4096];
    int fds[2];
    int status;
    ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
    assert_true(len > 0);
    path[len] = '\0';
    assert_int_equal(pipe(fds), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        dup2(fds[1], STDOUT_FILENO);
        execl(path, path, "print", NULL);
        _exit(127);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], token, TOKEN_LEN + 1), TOKEN_LEN);
    token[TOKEN_LEN] = '\0';
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static int print_token(void)
{
    char token[TOKEN_LEN + 1];
    return token_make(token) == 0 && fputs(token, stdout) >= 0 ? 0 : 1;
}

static void processes_do_not_make_the_same_tokens(void **state)
{
    char one[TOKEN_LEN + 1];
    char other[TOKEN_LEN + 1];
    (void)state;
    token_of_a_new_process(one);
    token_of_a_new_process(other);
    assert_string_not_equal(one, other);
}

int main(int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        return print_token();
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(processes_do_not_make_the_same_tokens),
        cmocka_unit_test(a_token_is_32_lowercase_hexadecimal_digits),
        cmocka_unit_test(no_token_repeats),
        cmocka_unit_test(every_bit_of_a_token_is_random),
    };
    return cmocka_run_group_tests_name("token", tests, NULL, NULL);
}
