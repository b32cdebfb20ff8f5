//! How a workload is confined on the host kernel.
