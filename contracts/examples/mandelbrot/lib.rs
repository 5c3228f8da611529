//! A picture of the Mandelbrot set, computed on all cores and replicas of a cluster.
//!
//! ```sh
//! phala build contracts/examples/mandelbrot
//! phala deploy contracts/target/ink/mandelbrot/mandelbrot.contract new
//! phala query ADDRESS picture 120 60 1000
//! ```
//!
//! `picture` splits the work by rows: each is a part that some core of some replica computes. The answer is the same
//! wherever the parts run.

#![cfg_attr(not(feature = "std"), no_std, no_main)]

#[ink::contract(env = pink::PinkEnvironment)]
mod mandelbrot {
    use ink::prelude::{string::String, vec::Vec};

    /// What rows are drawn with, from far outside to inside.
    const SHADES: &[u8] = b" .:-=+*#%@";

    /// A contract without state.
    #[ink(storage)]
    #[derive(Default)]
    pub struct Mandelbrot {}

    impl Mandelbrot {
        /// A contract that draws.
        #[ink(constructor)]
        pub fn new() -> Self {
            Self {}
        }

        /// The rows of a picture, each computed as a part of its own. A part that failed is an empty row.
        #[ink(message)]
        pub fn picture(&self, width: u32, height: u32, turns: u32) -> Vec<String> {
            let inputs = (0..height).map(|y| (y, width, height, turns));
            let rows = pink::map::<_, String>(ink::selector_bytes!("row"), inputs);
            rows.into_iter().map(Result::unwrap_or_default).collect()
        }

        /// One row: how long each of its points stays near zero.
        #[ink(message)]
        pub fn row(&self, y: u32, width: u32, height: u32, turns: u32) -> String {
            (0..width)
                .map(|x| {
                    let (re, im) = (place(x, width, -2.2, 3.2), place(y, height, -1.2, 2.4));
                    let last = SHADES.len().saturating_sub(1) as u64;
                    let shade = u64::from(stays(re, im, turns)).saturating_mul(last) / u64::from(turns.max(1));
                    SHADES.get(shade as usize).copied().map_or(' ', char::from)
                })
                .collect()
        }
    }

    /// Where a pixel lies on an axis.
    fn place(pixel: u32, pixels: u32, from: f64, length: f64) -> f64 {
        from + length * (f64::from(pixel) + 0.5) / f64::from(pixels.max(1))
    }

    /// Turns of z² + c until z is far from zero, at most `turns`.
    fn stays(re: f64, im: f64, turns: u32) -> u32 {
        let (mut x, mut y) = (0.0, 0.0);
        for turn in 0..turns {
            if x * x + y * y > 4.0 {
                return turn;
            }
            (x, y) = (x * x - y * y + re, 2.0 * x * y + im);
        }
        turns
    }

    #[cfg(test)]
    mod tests {
        use super::*;
        use ink::scale::{Decode, Encode};

        #[ink::test]
        fn a_picture_is_made_of_rows_in_their_order() {
            let mock = pink::mock::install();
            mock.on_part(ink::selector_bytes!("row"), |input| {
                let (y, width, height, turns) = Decode::decode(&mut &*input).unwrap();
                Ok((0u8, Mandelbrot::new().row(y, width, height, turns)).encode())
            });
            let picture = Mandelbrot::new().picture(32, 9, 50);
            assert_eq!(picture.len(), 9);
            assert!(picture.iter().all(|row| row.len() == 32));
            // The set is its own mirror image, and its middle is solid.
            assert_eq!(picture[0], picture[8]);
            assert!(picture[4].contains('@') && !picture[0].contains('@'), "{picture:#?}");
        }
    }
}
