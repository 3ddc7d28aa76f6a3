//! What the programs of a person do with a market: keys, offers, jobs, data.
