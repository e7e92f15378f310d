use super::*;

fn moments(id: &str, after: &str, began: u64, active: u64, ended: u64) -> String {
    format!(
        "Id={id}\nAfter={after}\nInactiveExitTimestampMonotonic={began}\n\
         ActiveEnterTimestampMonotonic={active}\nInactiveEnterTimestampMonotonic={ended}\n"
    )
}

const MANAGER: &str = "FirmwareTimestampMonotonic=0\nLoaderTimestampMonotonic=0\n\
                       InitRDTimestampMonotonic=0\nUserspaceTimestampMonotonic=4000000\n\
                       FinishTimestampMonotonic=20000000\n";

fn answer(manager: &str, log: &str, units: &[String]) -> String {
    format!("{manager}--\n{log}--\nId=multi-user.target\n--\n{}", units.join("\n"))
}

fn names(times: &[UnitTime]) -> Vec<&str> {
    times.iter().map(|time| time.unit.as_str()).collect()
}

#[test]
fn the_initial_ram_disk_is_told_by_the_kernel_where_no_systemd_runs_in_it() {
    let read = |manager: &str, log: &str| BootTimes::read(&answer(manager, log, &[])).unwrap();
    let log = "[    2.500000] Run /init as init process\n";
    let times = read(MANAGER, log);
    assert_eq!((times.kernel, times.initrd, times.userspace), (2.5, Some(1.5), Some(16.0)));
    assert_eq!(times.total, Some(20.0));
    let with_caller = read(MANAGER, "[    2.500000][    T1] Run /init as init process\n");
    assert_eq!(with_caller.initrd, Some(1.5));
    let none = read(MANAGER, "");
    assert_eq!((none.kernel, none.initrd), (4.0, None));
    let own = MANAGER.replace("InitRDTimestampMonotonic=0", "InitRDTimestampMonotonic=3000000");
    assert_eq!(read(&own, log).initrd, Some(1.0));
    for nonsense in ["[", "[x.y]", "[99999999999999999999.0]", "[9.0] later than userspace"] {
        assert_eq!(read(MANAGER, &format!("{nonsense}\n")).initrd, None, "{nonsense}");
    }
}

#[test]
fn firmware_and_loader_come_before_the_kernel() {
    let manager = MANAGER
        .replace("FirmwareTimestampMonotonic=0", "FirmwareTimestampMonotonic=5000000")
        .replace("LoaderTimestampMonotonic=0", "LoaderTimestampMonotonic=2000000");
    let times = BootTimes::read(&answer(&manager, "", &[])).unwrap();
    assert_eq!((times.firmware, times.loader), (Some(3.0), Some(2.0)));
    assert!(times.line().contains("firmware 3.0 s, loader 2.0 s, kernel 4.0 s"), "{times:?}");
}

#[test]
fn a_boot_that_is_not_through_has_no_total_and_no_critical_chain() {
    let manager = MANAGER.replace("=20000000", "=0");
    let units =
        [moments("multi-user.target", "a.service", 0, 0, 0), moments("a.service", "", 5, 9, 0)];
    let times = BootTimes::read(&answer(&manager, "", &units)).unwrap();
    assert_eq!((times.total, times.userspace), (None, None));
    assert!(times.critical_chain.is_empty() && times.line().starts_with("not through: kernel"));
    assert_eq!(names(&times.slowest), ["a.service"]);
}

#[test]
fn the_slowest_are_those_that_worked_longest_before_the_boot_was_through() {
    let units = [
        moments("quick.service", "", 5_000_000, 5_250_000, 0),
        moments("once.service", "", 5_000_000, 0, 8_000_000), // does its work and ends
        moments("slow.service", "", 6_000_000, 12_000_000, 0),
        moments("late.service", "", 21_000_000, 90_000_000, 0), // started by hand, say
        moments("dev-vda1.device", "", 1_000_000, 19_000_000, 0),
        moments("never.service", "", 0, 0, 0),
        moments("stopped.service", "", 9_000_000, 4_000_000, 5_000_000),
    ];
    let times = BootTimes::read(&answer(MANAGER, "", &units)).unwrap();
    assert_eq!(names(&times.slowest), ["slow.service", "once.service", "quick.service"]);
    let slow = &times.slowest[0];
    assert_eq!((slow.at, slow.took), (6.0, 6.0));
}

#[test]
fn the_critical_chain_follows_what_was_active_last_and_ends() {
    let units = [
        moments(
            "multi-user.target",
            "early.service last.service after.service",
            19_000_000,
            19_000_000,
            0,
        ),
        moments("early.service", "", 5_000_000, 6_000_000, 0),
        moments("last.service", "basic.target gone.service", 7_000_000, 18_000_000, 0),
        moments("after.service", "", 21_000_000, 22_000_000, 0),
        // A circle does not occur, but what a guest says is not to be trusted.
        moments("basic.target", "last.service multi-user.target", 6_500_000, 6_500_000, 0),
    ];
    let times = BootTimes::read(&answer(MANAGER, "", &units)).unwrap();
    assert_eq!(names(&times.critical_chain), ["multi-user.target", "last.service", "basic.target"]);
}

#[test]
fn what_is_no_answer_of_systemd_is_an_error() {
    for answer in ["", "--\n--\n--\n", "UserspaceTimestampMonotonic=0\n--\n--\n--\n"] {
        assert!(BootTimes::read(answer).is_err(), "{answer}");
    }
}

/// What a machine with systemd 247 answered, whose root was its initial RAM disk.
#[test]
fn an_older_systemd_answers_the_same_way() {
    let times = BootTimes::read(include_str!("recorded/systemd-247.txt")).unwrap();
    assert!(times.total.is_some_and(|total| total > times.kernel), "{times:?}");
    assert!(!times.slowest.is_empty() && times.slowest[0].took >= times.slowest[1].took);
    assert_eq!(times.critical_chain[0].unit, "multi-user.target");
    assert!(times.critical_chain.len() > 3, "{:?}", times.critical_chain);
}
