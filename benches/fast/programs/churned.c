// Loaded and unloaded while others trace.
int churned(int number) { return number + 1; }
