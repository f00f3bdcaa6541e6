/* A library whose `die` never comes back: it calls another library's function that does not. */
#include <stdlib.h>

void (*cleanup)(void);

void die(int code)
{
    if (cleanup)
        cleanup();
    exit(code);
}
