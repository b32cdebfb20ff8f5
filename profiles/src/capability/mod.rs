//! Linux capabilities by name and number, and the sets the field uses as defaults.
