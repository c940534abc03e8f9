/*
 * The lab guest's only program: process 1 of its initramfs.
 *
 * Ten times a second it writes the next number to the disk, then to the console. Number n is
 * written to sector n with direct, synchronous I/O, so a number seen on the console was on the
 * disk before. A new boot goes on after the highest number found, under a new boot id: it can
 * neither hide a restart nor overwrite what an earlier boot wrote.
 *
 * A record:  number=17 boot=0123456789abcdef stamp=3.512345 rtc=1700000000
 *
 * stamp is the guest's own clock, which stands still while the guest does not run (migration,
 * suspension); rtc, in whole seconds, goes on. Together they show how long a pause was.
 *
 * Kernel parameter dirty=N: change N MiB of memory a second, for migrations that are hard to end.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <linux/rtc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

#define SECTOR 512
#define CHUNK (1 << 20)
#define HEADER "kvmcluster lab record 1\n"
#define PERIOD_NS 100000000L
#define PAGE 4096
#define BUTTONS 8

static int console = -1;
static int buttons[BUTTONS];

static void say(const char *text)
{
	if (console >= 0 && write(console, text, strlen(text)) < 0)
		return;
}

static void power_off(void)
{
	sync();
	sleep(1); /* let the console drain */
	reboot(RB_POWER_OFF);
	for (;;)
		pause();
}

static void give_up(const char *what)
{
	char line[256];

	snprintf(line, sizeof line, "recorder: %s: %s\n", what, strerror(errno));
	say(line);
	power_off();
}

static void load_modules(void)
{
	struct dirent **names;
	char path[512];
	int count = scandir("/modules", &names, NULL, alphasort);

	for (int i = 0; i < count; i++) {
		if (names[i]->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "/modules/%s", names[i]->d_name);
		int file = open(path, O_RDONLY);
		if (file < 0 || syscall(SYS_finit_module, file, "", 0) < 0) {
			say(path);
			say(": not loaded\n");
		}
		close(file);
	}
}

static int wait_and_open(const char *path, int flags)
{
	for (int tries = 0; tries < 500; tries++) {
		int file = open(path, flags);
		if (file >= 0)
			return file;
		usleep(20000);
	}
	give_up(path);
	return -1;
}

static void add_ns(struct timespec *time, long ns)
{
	time->tv_nsec += ns;
	if (time->tv_nsec >= 1000000000L) {
		time->tv_nsec -= 1000000000L;
		time->tv_sec++;
	}
}

/* Sleep until *next, then set it a period later; after a stall do not try to catch up. */
static void next_tick(struct timespec *next)
{
	struct timespec now;

	while (clock_nanosleep(CLOCK_BOOTTIME, TIMER_ABSTIME, next, NULL) == EINTR)
		;
	clock_gettime(CLOCK_BOOTTIME, &now);
	if (now.tv_sec > next->tv_sec)
		*next = now;
	add_ns(next, PERIOD_NS);
}

static long rtc_seconds(void)
{
	static int rtc = -1;
	struct rtc_time read;

	if (rtc < 0)
		rtc = open("/dev/rtc0", O_RDONLY);
	if (rtc < 0 || ioctl(rtc, RTC_RD_TIME, &read) < 0)
		return 0;
	struct tm tm = {
		.tm_sec = read.tm_sec, .tm_min = read.tm_min, .tm_hour = read.tm_hour,
		.tm_mday = read.tm_mday, .tm_mon = read.tm_mon, .tm_year = read.tm_year,
	};
	return timegm(&tm);
}

/* All input devices: a keyboard may claim a power key too, next to ACPI's own button. */
static void open_buttons(void)
{
	char path[64];

	for (int i = 0; i < BUTTONS; i++) {
		snprintf(path, sizeof path, "/dev/input/event%d", i);
		buttons[i] = open(path, O_RDONLY | O_NONBLOCK);
	}
}

static int button_pressed(void)
{
	struct input_event event;

	for (int i = 0; i < BUTTONS; i++)
		while (buttons[i] >= 0 && read(buttons[i], &event, sizeof event) == sizeof event)
			if (event.type == EV_KEY && event.code == KEY_POWER && event.value == 1)
				return 1;
	return 0;
}

/* Change mib_per_second MiB of memory each second, for ever. */
static void make_dirty(long mib_per_second)
{
	struct sysinfo info;
	struct timespec next;

	sysinfo(&info);
	long pages = mib_per_second * 256;
	long most = info.freeram * info.mem_unit / PAGE * 3 / 4;
	long size = pages < most ? pages : most;
	char *memory = mmap(NULL, size * PAGE, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED)
		give_up("memory to make dirty");
	clock_gettime(CLOCK_BOOTTIME, &next);
	for (unsigned long value = 1, page = 0;;) {
		for (long i = 0; i < pages / 10; i++, page = (page + 1) % size)
			*(unsigned long *)(memory + page * PAGE) = value++ * 0x9e3779b97f4a7c15UL;
		next_tick(&next);
	}
}

/* Make sure that the disk is ours: new disks get a header, others must have it. */
static void check_header(int disk, char *sector)
{
	if (pread(disk, sector, SECTOR, 0) != SECTOR)
		give_up("header");
	if (memcmp(sector, HEADER, strlen(HEADER)) == 0)
		return;
	if (sector[0]) {
		errno = EINVAL;
		give_up("this disk holds something else");
	}
	memset(sector, 0, SECTOR);
	memcpy(sector, HEADER, strlen(HEADER));
	if (pwrite(disk, sector, SECTOR, 0) != SECTOR)
		give_up("header");
}

/* The highest number on the disk. The search ends at the first chunk that holds none. */
static long last_number(int disk, char *chunk)
{
	const size_t prefix = strlen("number=");
	long last = 0;
	ssize_t size;

	for (off_t start = 0; (size = pread(disk, chunk, CHUNK, start)) > 0; start += size) {
		long before = last;
		for (ssize_t at = start ? 0 : SECTOR; at < size; at += SECTOR) {
			long here = (start + at) / SECTOR;
			if (strtol(chunk + at + prefix, NULL, 10) == here)
				last = here;
		}
		if (last == before)
			break;
	}
	return last;
}

static void write_record(int disk, char *sector, long number, unsigned long boot)
{
	struct timespec now;

	for (int failures = 0;; failures++) {
		clock_gettime(CLOCK_BOOTTIME, &now);
		memset(sector, 0, SECTOR);
		snprintf(sector, SECTOR, "number=%ld boot=%016lx stamp=%ld.%06ld rtc=%ld\n", number,
			 boot, (long)now.tv_sec, now.tv_nsec / 1000, rtc_seconds());
		if (pwrite(disk, sector, SECTOR, number * SECTOR) == SECTOR)
			return;
		if (errno == ENOSPC || failures == 6000)
			give_up("write");
		usleep(100000);
	}
}

int main(void)
{
	char line[64];
	char *buffer = aligned_alloc(PAGE, CHUNK);
	const char *dirty = getenv("dirty");
	unsigned long boot = 0;
	struct timespec next;

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, "");
	console = open("/dev/ttyS0", O_WRONLY | O_NOCTTY);
	load_modules();
	int disk = wait_and_open("/dev/vda", O_RDWR | O_DIRECT | O_SYNC);
	open_buttons();
	if (dirty && atol(dirty) > 0 && fork() == 0)
		make_dirty(atol(dirty));

	getrandom(&boot, sizeof boot, GRND_INSECURE);
	clock_gettime(CLOCK_REALTIME, &next);
	boot ^= (unsigned long)next.tv_sec << 32 ^ next.tv_nsec;
	check_header(disk, buffer);
	long number = last_number(disk, buffer);
	snprintf(line, sizeof line, "\nboot %016lx continues after %ld\n", boot, number);
	say(line);

	clock_gettime(CLOCK_BOOTTIME, &next);
	for (;;) {
		number++;
		write_record(disk, buffer, number, boot);
		snprintf(line, sizeof line, "<%010ld>\n", number);
		say(line);
		if (button_pressed()) {
			say("power button\n");
			power_off();
		}
		next_tick(&next);
	}
}
