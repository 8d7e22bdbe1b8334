/* Preloaded into a process, moves its clocks by what a file says: two 64-bit integers, the seconds that the
   wall clock and the monotonic one are ahead. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *ahead;

__attribute__((constructor)) static void open_file(void) {
  const char *path = getenv("CLOCKS_AHEAD");
  int file = path ? open(path, O_RDONLY) : -1;
  void *map = file < 0 ? MAP_FAILED : mmap(NULL, 16, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) ahead = map;
}

int clock_gettime(clockid_t clock, struct timespec *time) {
  int result = syscall(SYS_clock_gettime, clock, time);
  if (result || !ahead) return result;
  switch (clock) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: time->tv_sec += ahead[0]; break;
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_COARSE: time->tv_sec += ahead[1]; break;
  }
  return result;
}

int gettimeofday(struct timeval *restrict time, void *restrict zone) {
  struct timespec now;
  int result = clock_gettime(CLOCK_REALTIME, &now);
  if (result) return result;
  time->tv_sec = now.tv_sec;
  time->tv_usec = now.tv_nsec / 1000;
  return 0;
}
