//! What the operating system says of this process.

/// Peak resident set in bytes since the start or the last [`reset_peak`]; 0 where it is not known.
pub(crate) fn peak_bytes() -> u64 {
    status("VmHWM:")
}

/// Resident set in bytes; 0 where it is not known.
pub(crate) fn resident_bytes() -> u64 {
    status("VmRSS:")
}

/// Forgets the peak so far, where the system allows it.
pub(crate) fn reset_peak() {
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}

/// Seconds that this process has had processors, all threads together; 0 where it is not known.
pub(crate) fn cpu_seconds() -> f64 {
    #[cfg(target_os = "linux")]
    {
        let spent = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        spent.tv_sec as f64 + spent.tv_nsec as f64 / 1e9
    }
    #[cfg(not(target_os = "linux"))]
    0.0
}

fn status(field: &str) -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return 0 };
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map_or(0, |kib| kib * 1_024)
}
