//! Evidence, its appraisal, and the provider interface
