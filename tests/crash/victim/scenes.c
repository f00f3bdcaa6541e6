/* Finds a scene by its name. */
#include "victim.h"
#include <string.h>

int run_scene(const char *name) {
    const struct scene *all[] = {fault_scenes, thread_scenes, lock_scenes, process_scenes, edge_scenes};
    for (unsigned i = 0; i < sizeof all / sizeof all[0]; i++)
        for (const struct scene *s = all[i]; s->name; s++)
            if (!strcmp(s->name, name)) {
                s->run();
                return 0;
            }
    return -1;
}
