#include "deferd/outcome.h"

#define OUTCOME_NAME(enumerator, name, meaning) [enumerator] = (name),

const char *outcome_name(enum outcome outcome)
{
    static const char *const names[] = {OUTCOMES(OUTCOME_NAME)};
    return names[outcome];
}

int outcome_is_failure(enum outcome outcome)
{
    switch (outcome) {
    case OUTCOME_UPSTREAM_FAILED:
    case OUTCOME_REJECTED:
    case OUTCOME_QUEUE_FULL:
    case OUTCOME_QUEUE_TIMEOUT:
    case OUTCOME_FAILED:
    case OUTCOME_LOST:
    case OUTCOME_STOPPED:
    case OUTCOME_TIMEOUT:
        return 1;
    default:
        return 0;
    }
}
