/* Turns callgrind's counting on and off from within (tests/benchmarks/hotpath.py). Outside of valgrind it does nothing. */
#include <valgrind/callgrind.h>

void counting(int on)
{
    if (on) {
        CALLGRIND_START_INSTRUMENTATION;
        CALLGRIND_ZERO_STATS;
    } else {
        CALLGRIND_STOP_INSTRUMENTATION;
    }
}
