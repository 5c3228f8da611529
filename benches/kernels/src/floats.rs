//! Numbers of double precision. Additions and multiplications are exactly rounded everywhere, so sums agree to the bit.

use crate::{Random, mix};
use alloc::{vec, vec::Vec};

/// One over the square root, by Newton's method from a guess of the exponent: `core` has no square root, and what would
/// stand in for it on one side would be measured instead of the engine.
fn inverse_sqrt(x: f64) -> f64 {
    let guess = f64::from_bits(0x5fe6_eb50_c7b5_37a9 - (x.to_bits() >> 1));
    (0..4).fold(guess, |root, _| root * (1.5 - 0.5 * x * root * root))
}

#[derive(Clone, Copy)]
struct Body {
    place: [f64; 3],
    speed: [f64; 3],
    mass: f64,
}

/// Five bodies that attract each other; a round is a step of a thousandth of a year.
pub(crate) fn n_body(rounds: u32) -> u64 {
    let mut random = Random(0xb0d1);
    let mut number = |scale: f64| ((random.next() >> 11) as f64 / (1_u64 << 53) as f64 - 0.5) * scale;
    let mut bodies = [Body { place: [0.0; 3], speed: [0.0; 3], mass: 39.47 }; 5];
    for body in &mut bodies[1..] {
        let place = [number(30.0), number(30.0), number(3.0)];
        *body = Body { place, speed: [number(2.0), number(2.0), number(0.2)], mass: number(0.04) + 0.03 };
    }
    for _ in 0..rounds {
        step(&mut bodies, 0.001);
    }
    bodies.iter().flat_map(|body| body.place).fold(0, |sum, x| mix(sum, x.to_bits()))
}

fn step(bodies: &mut [Body; 5], time: f64) {
    for i in 0..bodies.len() {
        for j in i + 1..bodies.len() {
            let (a, b) = (bodies[i], bodies[j]);
            let way = [a.place[0] - b.place[0], a.place[1] - b.place[1], a.place[2] - b.place[2]];
            let square = way[0] * way[0] + way[1] * way[1] + way[2] * way[2] + 1e-9;
            let inverse = inverse_sqrt(square);
            let pull = time * inverse * inverse * inverse;
            for (axis, way) in way.into_iter().enumerate() {
                bodies[i].speed[axis] -= way * b.mass * pull;
                bodies[j].speed[axis] += way * a.mass * pull;
            }
        }
    }
    for body in bodies {
        for (place, speed) in body.place.iter_mut().zip(body.speed) {
            *place += time * speed;
        }
    }
}

const SIZE: usize = 96;

/// A product of two matrices of 96 by 96 in each round; the result is a factor of the next.
pub(crate) fn matrix_product(rounds: u32) -> u64 {
    let mut random = Random(0xa7b3);
    let mut matrix = || -> Vec<f64> {
        (0..SIZE * SIZE).map(|_| (random.next() >> 11) as f64 / (1_u64 << 53) as f64 - 0.5).collect()
    };
    let (mut left, right) = (matrix(), matrix());
    for _ in 0..rounds {
        let mut product = vec![0.0; SIZE * SIZE];
        for (row, result) in left.chunks_exact(SIZE).zip(product.chunks_exact_mut(SIZE)) {
            for (factor, other) in row.iter().zip(right.chunks_exact(SIZE)) {
                for (cell, x) in result.iter_mut().zip(other) {
                    *cell += factor * x;
                }
            }
        }
        left = product;
    }
    left.iter().step_by(41).fold(0, |sum, x| mix(sum, x.to_bits()))
}

/// A picture of 64 by 64 points in each round, each a little larger than the one before.
pub(crate) fn mandelbrot(rounds: u32) -> u64 {
    let mut sum = 0;
    for round in 0..rounds {
        let scale = 3.0 / 64.0 / (f64::from(round) + 1.0);
        for y in 0..64 {
            for x in 0..64 {
                let steps = escape((f64::from(x) - 40.0) * scale, (f64::from(y) - 32.0) * scale);
                sum = mix(sum, u64::from(steps));
            }
        }
    }
    sum
}

fn escape(re: f64, im: f64) -> u32 {
    let (mut x, mut y) = (0.0, 0.0);
    for step in 0..200 {
        let (xx, yy) = (x * x, y * y);
        if xx + yy > 4.0 {
            return step;
        }
        (x, y) = (xx - yy + re, 2.0 * x * y + im);
    }
    200
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_close() {
        for x in [1e-6, 0.5, 2.0, 1e9] {
            assert!((inverse_sqrt(x) * inverse_sqrt(x) * x - 1.0).abs() < 1e-12);
        }
    }
}
