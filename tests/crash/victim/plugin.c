/* A library whose constructor calls back into the program that opens it. */
extern void plugin_constructed(void);

__attribute__((constructor)) static void construct(void) {
    plugin_constructed();
    __asm__ volatile("" : : : "memory");
}
