/* Types of a kernel that does not exist: what are bit-fields in real ones are whole members here, of the size of
 * what holds them and of others, and the other way around. */
struct kobject {
	unsigned int state_initialized;
	unsigned int state_in_sysfs;
	unsigned int state_remove_uevent_sent;
	unsigned char state_add_uevent_sent;
};

struct device {
	struct kobject kobj;
};

struct net_device {
	struct device dev;
	long mtu;
};

struct net {
	struct net_device *loopback_dev;
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	struct nsproxy *nsproxy;
	int pid : 22;
	long tgid;
} task;
