// Moves the time of day of the program that loads this first, by the seconds that the file $CLOCK_OFFSET holds.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  char offset[32] = "0";
  int file = open(getenv("CLOCK_OFFSET"), O_RDONLY);
  if (file >= 0) {
    ssize_t length = read(file, offset, sizeof offset - 1);
    offset[length > 0 ? length : 0] = 0;
    close(file);
  }
  time->tv_sec = now.tv_sec + atol(offset);
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}
