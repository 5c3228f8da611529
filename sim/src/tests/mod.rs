mod forged;
mod seeds;
