/* A library whose `die` comes back. */
void die(int code)
{
    static volatile int last;
    last = code;
}
