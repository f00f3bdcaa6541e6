// Long numbers to text and back: glibc's multiplication and division of many words, which are assembly.
#include <stdio.h>
#include <stdlib.h>

int main(void) {
    char text[80];
    snprintf(text, sizeof text, "%.30Le", 1.25e200L);
    long double back = strtold("3.14159265358979323846264338327950288e-90", 0);
    return back < 0 || text[0] != '1';
}
