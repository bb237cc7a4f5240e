#include "deferd/outcome.h"

#define OUTCOME_NAME(enumerator, name, meaning) [enumerator] = (name),

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {OUTCOMES(OUTCOME_NAME)};
    return names[outcome];
}
