/*
 * Texts of others on a terminal: nothing of them is obeyed, and they are as wide as they seem.
 */
#include "check.h"
#include "deferd/terminal.h"

#include <locale.h>
#include <stdio.h>

static void shows(const char *text, size_t width, const char *expected, size_t columns)
{
    char out[128];
    size_t used = terminal_text(out, sizeof(out), text, width);
    assert_string_equal(out, expected);
    assert_int_equal(used, columns);
}

static void what_a_terminal_obeys_is_escaped(void **state)
{
    (void)state;
    shows("plain text", 0, "plain text", 10);
    shows("\x1b[2J\r\n\t\x7f", 0, "\\x1B[2J\\x0D\\x0A\\x09\\x7F", 23);
    shows("a\\b", 0, "a\\x5Cb", 6);
    shows("\xc2\x9b", 0, "\\u{9B}", 6);            /* CSI in one character */
    shows("\xe2\x80\xae", 0, "\\u{202E}", 8);      /* from right to left */
    shows("\xef\xbb\xbf", 0, "\\u{FEFF}", 8);      /* not to be seen */
    shows("\xf3\xa0\x81\x81", 0, "\\u{E0041}", 9); /* a tag */
    shows("\xff\xc3(", 0, "\\xFF\\xC3(", 9);       /* no UTF-8 */
    shows("\xc0\x80\xe2\x82", 0, "\\xC0\\x80\\xE2\\x82", 16);
}

static void letters_of_all_kinds_are_shown(void **state)
{
    (void)state;
    shows("größe", 0, "größe", 5);
    shows("漢字", 0, "漢字", 4);
}

static void texts_are_cut_to_their_width(void **state)
{
    (void)state;
    shows("abcdef", 6, "abcdef", 6);
    shows("abcdef", 5, "abcd…", 5);
    shows("漢字", 3, "漢…", 3);
    shows("漢字", 2, "…", 1);
    shows("a\x1b", 4, "a…", 2);
}

static void texts_are_cut_to_their_room(void **state)
{
    char out[12];
    (void)state;
    for (size_t size = 5; size <= sizeof(out); size++) {
        memset(out, 'x', sizeof(out));
        terminal_text(out, size, "größe und mehr", 0);
        assert_true(strlen(out) < size);
        assert_non_null(strstr(out, "…"));
    }
}

static void durations_are_as_people_say_them(void **state)
{
    static const struct {
        double ms;
        const char *text;
    } cases[] = {
        {0, "0ms"},         {999, "999ms"},      {999.9, "1.0s"},        {1500, "1.5s"},
        {59940, "59.9s"},   {59960, "1m00s"},    {65000, "1m05s"},       {3600000, "1h00m"},
        {7500000, "2h05m"}, {90000000, "1d01h"}, {1e15, "11574074d01h"},
    };
    char out[32];
    (void)state;
    for (size_t i = 0; i < CHECK_COUNT(cases); i++) {
        terminal_duration(out, sizeof(out), cases[i].ms);
        assert_string_equal(out, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_a_terminal_obeys_is_escaped),
        cmocka_unit_test(letters_of_all_kinds_are_shown),
        cmocka_unit_test(texts_are_cut_to_their_width),
        cmocka_unit_test(texts_are_cut_to_their_room),
        cmocka_unit_test(durations_are_as_people_say_them),
    };
    setlocale(LC_CTYPE, "C.UTF-8");
    return cmocka_run_group_tests_name("terminal", tests, NULL, NULL);
}
